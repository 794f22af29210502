"""What both the suite and the check of one's own set-up ask: one function a property, played on a `Scene`."""
