"""`python -m fastconv` prints what a bug report needs."""

from fastconv import show_config

show_config()
