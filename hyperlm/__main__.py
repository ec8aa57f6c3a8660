"""``python -m hyperlm``: the command, where no script is installed (and under torchrun)."""

from hyperlm.cli import main

if __name__ == "__main__":
    main()
