"""`python -m orca2_gen`: the command line where no script is installed, as in a Ray job."""

from orca2_gen.cli import main

if __name__ == "__main__":
    main()
