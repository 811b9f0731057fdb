"""Reads run folders: tables, comparisons, reports and plots."""
