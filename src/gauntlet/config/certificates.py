"""The part of a configuration that says what is certified."""

from __future__ import annotations

from typing import Any, Self

from pydantic import (
    Field,
    model_validator,
)

from gauntlet.config.base import Closed, Title, flattened
from gauntlet.config.compatibility import certificate_problems
from gauntlet.config.components import refuse
from gauntlet.config.variants import Variant
from gauntlet.registry import CERTIFICATES, MODELS, Seed, Spec
from gauntlet.registry.source_code import class_attribute, locate


class Certificate(Closed):
    """One certificate: a lower bound on the distance of any adversarial example."""

    certificate: Spec = Field(description="a certificate, by `name`; its options stand beside this key")
    seed: Seed = Field(0, description="address of the certificate's own draws, beside the model's seed")
    title: Title | None = Field(None, description="what it is called in print; without it, by its name")

    _separate = flattened(CERTIFICATES, "certificate")

    @model_validator(mode="after")
    def _certifies_something(self) -> Self:
        refuse(certificate_problems(self.certificate))
        return self

    @property
    def certifies(self) -> str:
        """What is certified: "model", or the name of a classifier that is made from it, such as "smoothed"."""
        return str(CERTIFICATES.entry(self.certificate.name).tags.get("certifies", "model"))

    @property
    def norm(self) -> str:
        """The norm of the radii."""
        return str(CERTIFICATES.entry(self.certificate.name).tags["norms"][0])

    def applies_to(self, variant: Variant) -> bool:
        """Tell whether a variant's network has what this certificate needs, as registered or as its class defines."""
        needs = CERTIFICATES.entry(self.certificate.name).tags.get("needs")
        if needs is None:
            return True
        name = variant.model.name
        if ":" in name:
            located = locate(*name.split(":"))
            return located is not None and class_attribute(located, needs) is not None
        return bool(MODELS.entry(name).tags.get(needs))

    def as_dict(self) -> dict[str, Any]:
        """Give what decides the rows of this certificate on a given model."""
        return {"seed": self.seed, "certificate": self.certificate.as_dict()}
