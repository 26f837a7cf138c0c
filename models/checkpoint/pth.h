// SPDX-License-Identifier: MIT
//
// pth.h - what torch.save writes (.pth, .pt): a zip archive of one pickle, which says what tensors there are, and their storages.
//
// NAME/data.pkl is the pickle (pickle.h), NAME/data/KEY the storages as they lie in memory, NAME/byteorder says "little". Nothing
// of a pickle is run.

#ifndef MODELS_CHECKPOINT_PTH_H
#define MODELS_CHECKPOINT_PTH_H

#include "models/checkpoint/tensors.h"

#define PTH_ENTRIES_MAX 200000 /* files in the archive */
#define PTH_LEVELS_MAX  4      /* dictionaries around the weights */

/* The tensors of a checkpoint: a state_dict, or what lies under `state_dict_ema`, `model_ema`, `state_dict`, `model_state_dict`,
   `model` or `net`, in this order, in dictionaries around it; the texts beside it are the metadata. Refused by name: pickles that
   ask for more than tensors, TorchScript, files from before PyTorch 1.6, compressed or encrypted entries, storages that do not
   fit their entry. ERR_UNSUPPORTED when libzip is not built in. */
int pth_open(const char *path, struct tensors **out, struct err *e);

#endif
