"""Settings that belong to a row and not to the study: all but none under `paired`, each method's own under `released`.

The configuration asks for them as `${own:KEY,DEFAULT}`, so that the command line still has the last word. No torch.

paired     Everything beside the recipe is equal between methods. Only rows beside Table 1 have settings of their own.
released   Every row as its authors published it: learning rate, KL, advantage, averaging, group sizes, schedule. Rows
           then differ in more than their recipe, so the two protocols never share a table. Left out: TempFlow-GRPO's
           first two epochs without training (a remedy for a sampler that draws each prompt twice) and DanceGRPO's
           bfloat16 autocast (GRPO-Guard's authors trained Flux in float32, flow_grpo issue 204). Left out, too:
           flow_grpo's and TempFlow-GRPO's filter, which drops members whose group has one reward before it takes
           means (train_sd3.py:801-822), so that here the policy's term is smaller beside the KL where groups are
           unanimous; and float16's growing gradient scale: here each update begins at one scale.
"""

from __future__ import annotations

from typing import Any

PROTOCOLS = ("paired", "released")
Settings = dict[str, Any]

_KL = {"optim.kl_beta": 0.04, "optim.kl_unit": "without_dt"}  # flow_grpo config/grpo.py:106,147; train_sd3.py:900
_LITTLE_KL = _KL | {"optim.kl_beta": 0.01}  # flow_grpo config/grpo.py:227, PickScore
_BATCH_MEAN = {"optim.micro_batch": 9}  # flow_grpo config/grpo_guard.py:46: the mean is over a GPU's batch

# Rows beside Table 1: FlowGRPO with the KL of its own configuration, and GRPO-Guard with the released script's bias.
PAIRED: dict[str, Settings] = {
    "sd3_flow_kl_geneval": _KL,
    "sd3_flow_kl_pickscore": _LITTLE_KL,
    "sd3_flow_kl_text": _KL,
    "sd3_guard_released_text": _BATCH_MEAN,
}

# flow_grpo at 879042c, config/grpo.py: general_ocr_sd3, geneval_sd3 and pickscore_sd3.
_FLOW: Settings = _KL | {
    "optim.rate": 3e-4,  # config/base.py:76
    "optim.clip_norm": 1.0,  # config/base.py:89
    "optim.ema_decay": 0.9,  # scripts/train_sd3.py:445
    "optim.ema_interval": 8,  # scripts/train_sd3.py:445
    "optim.updates_per_rollout": 2,  # config/grpo.py:102,144: accumulates over half of an epoch's batches
    "optim.micro_batch": 9,  # config/grpo.py:95,137
    "sampling.micro_batch": 9,
    "sampling.steps": 10,  # config/grpo.py:90,132,212
    "sampling.groups": 48,  # config/grpo.py:97,139
    "sampling.group_size": 24,  # config/grpo.py:96,138
    "method.advantage": "global_std",  # config/grpo.py:108,148,228
}
# flow_grpo at 879042c, config/grpo_guard.py: general_ocr_sd3_rationorm, pickscore_hps_sd3_ratio_norm and
# geneval_sd3_rationorm; the clip ranges are the recipe's and the row's.
_GUARD: Settings = _FLOW | {
    "method.recipe": "guard_flow_grpo_released",  # scripts/train_sd3_GRPO_Guard.py:915-932: the bias is a batch mean
    "method.advantage": "group_std",  # config/grpo_guard.py:60,112: global_std = False
    "optim.rate": 1e-4,  # config/grpo_guard.py:78,126,174
    "optim.kl_beta": 0.0,  # config/grpo_guard.py:58,111,158
}
# Our choice: TempFlow-GRPO's config/dgx.py at 63e4def branches for GenEval and PickScore alone, so for text
# geneval_sd3_pr. Its beta is that of general_ocr_sd3 there, the same method without branches.
_TEMP: Settings = _FLOW | {
    "method.advantage": "group_std",  # geneval_sd3_pr: global_std = False
    "optim.kl_beta": 0.004,  # geneval_sd3_pr and general_ocr_sd3
    "optim.kl_unit": "with_dt",  # train_sd3_pr.py at e66824e: over the variance of the whole step
    "optim.rate": 3e-4,  # our choice: its base.py is not public, and it says that it is flow_grpo's
    "optim.micro_batch": 6,  # train_sd3_pr.py: a trunk's branches
    "sampling.micro_batch": 6,
}
# XueZeyue/DanceGRPO at 15cc71d, scripts/finetune/finetune_flux_grpo.sh, trained there on HPSv2.1. Our choice: the same
# for GenEval and text, for which no configuration is public.
_DANCE: Settings = {
    "backbones.flux.train": "full",  # train_grpo_flux.py: every weight of the transformer
    "backbones.flux.resolution": 720,  # :42-43
    "sampling.schedule": "dance",  # :55, shift 3
    "sampling.steps": 16,  # :45
    "sampling.groups": 16,  # :21,29: a prompt on each of 16 GPUs
    "sampling.group_size": 12,  # :52
    "sampling.micro_batch": 1,  # train_grpo_flux.py rolls out and trains one image at a time
    "optim.micro_batch": 1,
    "checkpoint_every": 30,  # our choice: all weights and their state are 190 GB
    "optim.updates_per_rollout": 3,  # :34: 12 images on a GPU, an update after every 4
    "optim.rate": 1e-5,  # :36
    "optim.clip_norm": 1.0,  # :49
    "optim.ema_decay": 0.0,  # no --use_ema: what is evaluated is what was trained
    "optim.ema_interval": 1,
    "optim.kl_beta": 0.0,  # its loss has no such term
}
# Our choice: GRPO-Guard on DanceGRPO is nowhere published, so as its base, with the bias of each sample alone.
_GUARD_DANCE = _DANCE

RELEASED: dict[str, Settings] = {
    "sd3_temp_text": _TEMP,
    "sd3_flow_geneval": _FLOW,
    "sd3_guard_geneval": _GUARD,
    "sd3_flow_pickscore": _FLOW | _LITTLE_KL,
    "sd3_guard_pickscore": _GUARD,
    "sd3_flow_text": _FLOW,
    "sd3_guard_text": _GUARD,
    # A base model is not trained; it paints at the resolution of the rows that it normalises.
    "flux_base": {"backbones.flux.resolution": _DANCE["backbones.flux.resolution"]},
    "flux_dance_geneval": _DANCE,
    "flux_guard_geneval": _GUARD_DANCE,
    "flux_dance_text": _DANCE,
    "flux_guard_text": _GUARD_DANCE,
    # Our choice: the four further rows of Table 2 are FlowGRPO with one or two columns changed.
    "ablation_temp_reweight": _FLOW,
    "ablation_guard_reweight": _FLOW,
    "ablation_mean_revised": _FLOW,
    "ablation_ratio_norm": _FLOW,
    # Beside Table 1, where the released FlowGRPO has its KL already.
    "sd3_flow_kl_geneval": _FLOW,
    "sd3_flow_kl_pickscore": _FLOW | _LITTLE_KL,
    "sd3_flow_kl_text": _FLOW,
    "sd3_guard_released_text": _GUARD,
    "flux_guard_beta_text": _GUARD_DANCE,
}


def own(row: str, protocol: str) -> Settings:
    """The settings, by their path in the configuration, that `protocol` gives the row called `row`; often none."""
    tables = dict(zip(PROTOCOLS, (PAIRED, RELEASED), strict=True))
    return tables.get(protocol, {}).get(row, {})
