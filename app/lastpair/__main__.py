"""`python -m lastpair`, the same as the command `lastpair`."""

from lastpair.cli import main

if __name__ == "__main__":
    main()
