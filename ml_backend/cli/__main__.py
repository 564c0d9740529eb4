"""`python -m ml_backend.cli`: the same as `rankloop`."""

from ml_backend.cli.app import main

if __name__ == "__main__":
    main()
