"""Questions that pages ask in a dialog."""

from cllm.web.dialogs.asking import ask, ask_name, ask_overwrite, opened

__all__ = ["ask", "ask_name", "ask_overwrite", "opened"]
