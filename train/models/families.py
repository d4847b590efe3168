"""The families of models, by their name in a config. A new one is a file beside this one and a row here."""

from train.models import internvl_siglip, jina, llava

FAMILIES = {family.name: family for family in (internvl_siglip.FAMILY, llava.FAMILY, jina.FAMILY)}
