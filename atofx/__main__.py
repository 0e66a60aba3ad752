"""``python -m atofx`` is the command ``atofx``."""

from atofx.cli import main

if __name__ == "__main__":
    main()
