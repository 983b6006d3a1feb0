"""Hook of mkdocs: links that lead out of docs/, such as ../hjepa/step.py, are links on GitHub and plain names in the site."""

import posixpath
import re
from pathlib import Path
from typing import Any

LINK = re.compile(r"\[([^\]]+)\]\(((?:\.\./)+[^)#\s]*)(?:#[^)]*)?\)")


def on_page_markdown(markdown: str, *, page: Any, config: Any, files: Any) -> str:
    """Replaces them in one page. Raises ValueError for a link to a file that is not there."""
    docs = Path(config.docs_dir)

    def replaced(link: re.Match[str]) -> str:
        place = posixpath.normpath(posixpath.join(docs.name, posixpath.dirname(page.file.src_uri), link[2]))
        if not (docs.parent / place).exists():
            raise ValueError(f"docs/{page.file.src_uri} links to {link[2]}, and there is no {place}; correct the link")
        if place.startswith(f"{docs.name}/"):
            return link[0]
        return link[1] if link[1] == place else f"{link[1]} (`{place}`)"

    return LINK.sub(replaced, markdown)
