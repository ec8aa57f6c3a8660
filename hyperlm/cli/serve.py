"""``hyperlm serve``: the explorer of a run in the browser, with live predictions."""

from pathlib import Path
from typing import Annotated

import typer

from hyperlm.cli.errors import Debug, say
from hyperlm.errors import OptionError

__all__ = ["serve"]


def serve(
    run: Annotated[str, typer.Argument(help="Folder of a run, or a hub id.", metavar="RUN")],
    data: Annotated[
        str | None,
        typer.Option(
            help="Labelled texts to show: a file, folder, named set or hub id; if not given, what "
            "the run was trained on.",
            metavar="NAME|PATH",
        ),
    ] = None,
    split: Annotated[
        str, typer.Option(help="Of a data set with splits; a single file is taken whole.")
    ] = "val",
    limit: Annotated[int, typer.Option(help="Most texts to show; 0 for none.", min=0)] = 20_000,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="0 takes any that is free.", min=0, max=65535)] = 8765,
    allow_remote: Annotated[
        bool,
        typer.Option(
            "--allow-remote",
            help="Accept a --host that other machines can reach. There is no password: whoever "
            "reaches it can use the model and read the texts shown.",
        ),
    ] = False,
    debug: Debug = False,
) -> None:
    """Explore a run in the browser; texts typed there are classified at once. Ctrl-C ends it."""
    if Path(run).is_file():
        raise OptionError(
            f"{run}: serve needs a model, and this is a file. Give the folder of a run; 'hyperlm "
            f"visualize {run} --output X.html' draws a page of a file."
        )
    from hyperlm.classifier import load
    from hyperlm.quiet import quiet_libraries
    from hyperlm.viz.answering import answerer
    from hyperlm.viz.explorer import explorer_html, page_layouts
    from hyperlm.viz.serve import PageServer
    from hyperlm.viz.sources import collect_model

    quiet_libraries()
    # First the port: whether it is free shows at once, the model takes a while.
    server = PageServer(host, port, allow_remote=allow_remote)
    try:
        model = load(run)
        seen = collect_model(model, run, data=data, split=split, limit=limit, say=say)
        layouts = page_layouts(seen, say=say)
        page = explorer_html(seen, layouts, served=True)
        typer.echo(f"{server.url}  (Ctrl-C ends it)")
        server.serve(page, answerer(model, layouts))
    except KeyboardInterrupt:
        say("Stopped.")
    finally:
        server.server_close()
