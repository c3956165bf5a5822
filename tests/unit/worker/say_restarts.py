"""`python -m tests.unit.worker.say_restarts`: says how often a worker started here would be forked again."""

from core.settings import Settings

if __name__ == "__main__":
    print("restarts", Settings.from_env().worker_restarts)
