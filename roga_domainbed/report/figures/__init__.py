"""The figures of a report: values with panels, drawn as inline SVG for the page and as files for a paper."""
