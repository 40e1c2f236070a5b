"""Where the command `lobe` begins: signals are heard before anything large is imported."""

from __future__ import annotations

from benchmark import stopping


def main() -> None:
    """Entry point of the process; `benchmark.cli.main` with nothing lost while it is imported and after it has ended."""
    with stopping.none_lost():
        try:
            from benchmark.cli import main as command

            if stopping.was_asked():  # an import has swallowed it
                raise KeyboardInterrupt
        except BaseException as error:
            if isinstance(error, KeyboardInterrupt) or stopping.was_asked():
                stopping.end()
            raise
        command()


if __name__ == "__main__":
    main()
