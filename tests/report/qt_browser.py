"""Chromium as Qt WebEngine has it, with no window: a process that a test drives over the DevTools protocol."""

from __future__ import annotations

import signal
import sys

from PySide6.QtCore import QUrl
from PySide6.QtWebEngineWidgets import QWebEngineView
from PySide6.QtWidgets import QApplication

if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    application = QApplication(sys.argv)
    view = QWebEngineView()
    view.resize(1000, 800)
    view.load(QUrl("about:blank"))
    view.show()
    sys.exit(application.exec())
