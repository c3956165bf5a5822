"""What the tests of the block list ask."""

from core.errors import InvalidRequest


def is_refused(rules, prompt):
    """Whether the rules refuse the prompt."""
    try:
        rules.check(prompt)
    except InvalidRequest:
        return True
    return False
