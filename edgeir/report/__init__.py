"""One `Report` value, and one emitter per format that shows it (`edgeir.report.formats.emit`)."""
