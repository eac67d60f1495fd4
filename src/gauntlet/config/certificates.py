"""The schema of certificates."""

from __future__ import annotations

from typing import Any, Self

from pydantic import Field, model_validator

from gauntlet.config.base import Closed, Title, inline_component
from gauntlet.config.compatibility import certificate_problems
from gauntlet.config.components import refuse
from gauntlet.config.variants import Variant
from gauntlet.registry import CERTIFICATES, MODELS, Seed, Spec
from gauntlet.registry.source_code import class_attribute, locate


class Certificate(Closed):
    """One certificate: a lower bound on the distance of any adversarial example."""

    certificate: Spec = Field(description="name of a certificate; its options are further keys of this mapping")
    seed: Seed = Field(0, description="seed of the certificate's random draws, in addition to the model's seed")
    title: Title | None = Field(None, description="name in tables and figures; default: the key")

    _inline = inline_component(CERTIFICATES, "certificate")

    @model_validator(mode="after")
    def _check_options(self) -> Self:
        refuse(certificate_problems(self.certificate))
        return self

    @property
    def certifies(self) -> str:
        """The certified classifier: "model", or the name of one that is made from it, such as "smoothed"."""
        return str(CERTIFICATES.entry(self.certificate.name).tags.get("certifies", "model"))

    @property
    def norm(self) -> str:
        """The norm of the radii."""
        return str(CERTIFICATES.entry(self.certificate.name).tags["norms"][0])

    def applies_to(self, variant: Variant) -> bool:
        """Check that a variant's network has the property that this certificate needs: as a tag, or in its class."""
        needs = CERTIFICATES.entry(self.certificate.name).tags.get("needs")
        if needs is None:
            return True
        name = variant.model.name
        if ":" in name:
            definition = locate(*name.split(":"))
            return definition is not None and class_attribute(definition, needs) is not None
        return bool(MODELS.entry(name).tags.get(needs))

    def as_dict(self) -> dict[str, Any]:
        """Return what decides the rows of this certificate on a fixed model."""
        return {"seed": self.seed, "certificate": self.certificate.as_dict()}
