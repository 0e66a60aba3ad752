"""Plain data: values with their lineage, groups, masks, analyses."""
