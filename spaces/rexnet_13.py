"""The space `rexnet` for 13 blocks, the number of the paper's setting of about 3.0M parameters and 300M multiply-adds."""

import dataclasses
from functools import partial

from naxcli import load_space

REXNET = load_space("rexnet")

SPACE = dataclasses.replace(
    REXNET,
    name="rexnet_13",
    configspace=partial(REXNET.configspace, blocks=13),
    reference={
        "straight": {
            "blocks": 13,
            "first_width": 24,
            "rise": 205,
            **dict.fromkeys(REXNET.groups["slopes"], 1),
        }
    },
)
