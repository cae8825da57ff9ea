"""`python -m fastconv` prints what a bug report needs."""

from fastconv._config import show_config

show_config()
