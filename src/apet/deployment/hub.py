"""`apet push`: an exported run on the Hugging Face Hub, by that library's own conventions."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from huggingface_hub import HfApi, get_token
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, OfflineModeIsEnabled
from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined]  # of its __init__, not of its __all__

from apet.deployment.export import CARD, FinishedRun, export
from apet.deployment.model_card import ExportKind
from apet.deployment.usage import PLACE
from apet.errors import ApetError


@dataclass(frozen=True)
class Pushed:
    """What went to the hub, or would.

    Attributes:
        repo_id: name of the repository.
        url: where it is; None after a dry run.
        files: name → bytes, the largest first.
        notes: what a user must know about it.
    """

    repo_id: str
    url: str | None
    files: Mapping[str, int]
    notes: tuple[str, ...]


def push(
    run: str | Path | FinishedRun,
    repo_id: str,
    to: ExportKind = "transformers",
    *,
    private: bool = False,
    dry_run: bool = False,
    backbone: str | None = None,
) -> Pushed:
    """Export a finished run, and upload it to the Hugging Face Hub.

    The token is that of ``HF_TOKEN`` or of ``hf auth login``.

    Args:
        run: finished run, or its folder.
        repo_id: ``name`` or ``owner/name``; the repository is made if it is not there.
        to: what is written, as for `apet.export`.
        private: whether a repository that is made is private.
        dry_run: write nothing to the hub, and ask it nothing; the files are those that would go.
        backbone: where the run's backbone is by now, if it moved.

    Returns:
        What went.

    Raises:
        ApetError: what `apet.export` refuses; no valid name, no token, no network, or the hub refuses.

    Examples:
        >>> import apet
        >>> try:
        ...     apet.push("runs/never-run", "me/two/names", dry_run=True)
        ... except apet.ApetError as error:
        ...     print(str(error).partition(";")[0])
        'me/two/names' is not a valid name of a repository
    """
    try:
        validate_repo_id(repo_id)
    except HFValidationError as e:
        raise ApetError(f"{repo_id!r} is not a valid name of a repository; give name or owner/name ({e})") from e
    if not dry_run:
        _require_hub()
    with tempfile.TemporaryDirectory() as temporary:
        done = export(run, Path(temporary) / "model", to, backbone=backbone)
        card = done.folder / CARD
        card.write_text(card.read_text("utf-8").replace(PLACE, repo_id), "utf-8")
        files = {path: (done.folder / path).stat().st_size for path in done.files}
        if dry_run:
            return Pushed(repo_id, None, files, done.notes)
        api = HfApi()
        try:
            url = api.create_repo(repo_id, private=private or None, exist_ok=True)
            message = f"Add a run tuned with apet ({to})"
            api.upload_folder(repo_id=url.repo_id, folder_path=done.folder, commit_message=message)
        except (HfHubHTTPError, OSError, RuntimeError) as e:
            raise ApetError(f"the hub did not take {repo_id!r}: {_reason(e)}") from e
    return Pushed(url.repo_id, str(url), files, done.notes)


def _require_hub() -> None:
    """Pass where the hub can be reached by somebody it knows: better known before a model is written.

    Raises:
        ApetError: no token, no network, or the hub does not know the token.
    """
    if get_token() is None:
        raise ApetError("no token of the hub: run hf auth login, or set HF_TOKEN; --dry-run needs none")
    try:
        HfApi().whoami()
    except OfflineModeIsEnabled as e:
        raise ApetError("HF_HUB_OFFLINE is set, so nothing can be pushed; unset it, or give --dry-run") from e
    except HfHubHTTPError as e:
        raise ApetError(f"the hub does not take the token: {_reason(e)}; run hf auth login again") from e
    except Exception as e:  # the library's client for HTTP has errors of its own, and has changed before
        raise ApetError(f"the hub cannot be reached ({_reason(e)}); check the network, or give --dry-run") from e


def _reason(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
