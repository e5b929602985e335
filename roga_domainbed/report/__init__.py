"""Records to tables: values first, then text or LaTeX. No torch."""
