"""The language that the command asks the service's messages in."""

import pytest

from client.terminal import language_of


@pytest.mark.parametrize(
    ("environ", "language"),
    [
        ({}, ""),
        ({"LANG": "zh_CN.UTF-8"}, "zh-CN"),
        ({"LANG": "zh_CN.UTF-8", "LC_ALL": "en_US.UTF-8"}, "en-US"),
        ({"LANG": "zh_CN.UTF-8", "LC_ALL": "C.UTF-8"}, ""),
        ({"LANG": "en_US.UTF-8", "LC_MESSAGES": "zh_CN"}, "zh-CN"),
        ({"LANG": "en_US.UTF-8", "LANGUAGE": "zh_CN:en"}, "zh-CN"),
        ({"LANG": "C", "LANGUAGE": "zh_CN:en"}, ""),
        ({"LANG": "ca_ES@valencia"}, "ca-ES"),
        ({"LANG": "中文"}, ""),
        ({"LANG": "POSIX"}, ""),
    ],
)
def test_the_language_is_that_of_the_terminals_locale(environ, language):
    assert language_of(environ) == language
