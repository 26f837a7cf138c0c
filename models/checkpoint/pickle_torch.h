// SPDX-License-Identifier: MIT
//
// pickle_torch.h - private to pickle.c: the few Python names that torch.save uses for tensors, and what they do.

#ifndef MODELS_CHECKPOINT_PICKLE_TORCH_H
#define MODELS_CHECKPOINT_PICKLE_TORCH_H

#include "models/checkpoint/pickle.h"

#define PICKLE_RESAVE "save the weights alone: torch.save(model.state_dict(), 'weights.pth')"

/* What module.name is, for the calls below; -1, ERR_UNSUPPORTED, naming it: nothing is imported. */
int pickle_torch_find(const char *module, size_t module_size, const char *name, size_t name_size, struct err *e);

/* Calls a function found above with a tuple of arguments. The result is made in fresh, which is a NONE, or *result is an
 * argument. */
int pickle_torch_call(int function, struct pickle_value *arguments, struct pickle_value *fresh, struct pickle_value **result,
                      struct err *e);

/* What a persistent id stands for: a storage, made in fresh. */
int pickle_torch_storage(const struct pickle_value *id, struct pickle_value *fresh, struct err *e);

#endif
