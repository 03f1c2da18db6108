"""`python -m fastws`."""

from fastws.cli import main

if __name__ == "__main__":
    main(prog_name="python -m fastws")
