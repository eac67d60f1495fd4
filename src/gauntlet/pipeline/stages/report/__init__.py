"""Stage `report`: the page of an experiment."""
