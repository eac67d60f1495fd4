"""Attacks: functions ``(model, x, y, *, options) -> x_adv`` over images in [0, 1], and adapters to attack libraries."""
