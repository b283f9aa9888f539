"""From what a user names as a model to a folder: a folder stays one, a hub id is downloaded, pinned to one commit."""

import logging
import re
from pathlib import Path

from huggingface_hub import snapshot_download

from outrider.engine.errors import LoadError, first_line

logger = logging.getLogger("outrider.engine")

# What a served checkpoint consists of; weights in other formats are never fetched, as they may hold code.
_FILES = ("*.json", "*.safetensors", "*.jinja", "tokenizer.model")
_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")


def checkpoint_folder(model: str, revision: str | None = None) -> str:
    """The folder of a model that is named by its path or by its hub id, `organisation/name`.

    Args:
        model: a path that exists is taken as it is
        revision: a branch, tag or commit of the hub's repository; its main branch when None

    Raises:
        LoadError: there is no such folder, or the hub does not give it.
    """
    if Path(model).exists() or not _HUB_ID.fullmatch(model):
        if revision is not None:
            raise LoadError(f"--revision {revision} is for models of the hub, and `{model}` is a folder: leave it out")
        return model
    try:
        folder = snapshot_download(model, revision=revision, allow_patterns=list(_FILES))
    except Exception as error:  # no network, no such repository, no permission: each becomes one clear line
        raise LoadError(f"there is no folder `{model}`, and the hub does not give it: {first_line(error)}") from error
    logger.info("%s is at commit %s", model, Path(folder).name)
    return folder
