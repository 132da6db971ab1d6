"""An analyst's own question, asked of the whole log from a checkpoint on."""
