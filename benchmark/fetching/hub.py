"""One file of a repository on the Hugging Face hub, at a pinned revision.

The hub's own client fetches it: it resumes, and knows logins and proxies. Here its faults become sentences.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from benchmark.fetching.proxies import proxy_for
from benchmark.fetching.transfer import FetchError, full_disk
from benchmark.private import without_password

HUB = "https://huggingface.co"


@dataclass(frozen=True)
class HubFile:
    """
    Attributes:
        path: where the client put it, below the folder given.
        commit: that the revision meant when it was fetched.
    """

    path: Path
    commit: str


def fetched_from_hub(repository: str, name: str, revision: str, folder: Path) -> HubFile:
    """Brings a file of a repository below `folder`, or goes on with one that was cut.

    Args:
        revision: tag, branch or commit; empty = the repository's main branch.

    Raises:
        FetchError: no network, offline mode (HF_HUB_OFFLINE), no such file, a repository behind terms, or no room.
    """
    from huggingface_hub import get_hf_file_metadata, hf_hub_download, hf_hub_url
    from huggingface_hub.errors import (
        EntryNotFoundError,
        GatedRepoError,
        HfHubHTTPError,
        OfflineModeIsEnabled,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    server = (os.environ.get("HF_ENDPOINT") or HUB).rstrip("/")
    page = without_password(f"{server}/{repository}")
    try:
        about = get_hf_file_metadata(hf_hub_url(repository, name, revision=revision or None, endpoint=server), endpoint=server)
        commit = about.commit_hash or revision
        path = hf_hub_download(repository, name, revision=commit or None, local_dir=folder, endpoint=server)
        return HubFile(Path(path), commit)
    except OfflineModeIsEnabled:
        raise FetchError(
            f"{page} was not asked for {name}: HF_HUB_OFFLINE or TRANSFORMERS_OFFLINE keeps the hub's client from the network. Unset it "
            "and run the same command again, or download the file elsewhere and give it with --file."
        ) from None
    except GatedRepoError:
        raise FetchError(
            f"{page} is behind terms. 1. Log in there with a free account and accept them. 2. Make a token with read access and run "
            "`hf auth login`. 3. Run the same command again."
        ) from None
    except RevisionNotFoundError:
        raise FetchError(f"{page} has no revision {revision}: it was withdrawn or renamed. Look at {page}.") from None
    except EntryNotFoundError as error:
        if "Local" in type(error).__name__:  # not in the cache, and no network
            raise FetchError(_no_answer(page, error)) from None
        raise FetchError(
            f"{page} has no file {name} at {revision or 'its main branch'}. Look at {page}/tree/{revision or 'main'}."
        ) from None
    except RepositoryNotFoundError:
        raise FetchError(f"There is no repository {page}, or it is private: log in with `hf auth login`, or look there.") from None
    except HfHubHTTPError as error:
        raise FetchError(_no_answer(page, error)) from None
    except OSError as error:
        if full_disk(error):
            raise FetchError(
                f"No room left for {name} in {folder}. Make room and run the same command again, which goes on from there."
            ) from None
        raise FetchError(_no_answer(page, error)) from None
    except Exception as error:  # of the client's own transport, which differs between its versions
        raise FetchError(_no_answer(page, error)) from None


def _no_answer(page: str, error: Exception) -> str:
    reason = without_password(str(error).split("\n")[0] or type(error).__name__)[:160]
    proxy = proxy_for(page)
    through = f", asked through the proxy {proxy} of HTTPS_PROXY" if proxy else ""
    return (
        f"{page} did not give the file ({reason}){through}. What came is kept: run the same command again where there is a network, or "
        "download it elsewhere and give it with --file."
    )
