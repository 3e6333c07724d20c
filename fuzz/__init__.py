"""What nobody would write, fed to the parsers and to the whole server: `python -m fuzz SECONDS`.

A campaign is a function `one(data)`: it takes any bytes at all and raises for nothing but a bug. Campaigns are driven
by atheris, which looks for bytes that reach new code, and by Hypothesis, which makes bytes that nearly mean something.
The tests replay every file in `corpus/` and `findings/`.
"""
