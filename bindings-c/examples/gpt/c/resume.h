/* Stopping and going on: a model file of the trainer's own, and beside it the optimizer's state, which the library writes. */
#ifndef GPT_RESUME_H
#define GPT_RESUME_H

#include "model.h"
#include "rng.h"

#include "klshampoo.h"

/* Writes PATH (model, batch generator, steps done) and PATH.optimizer-STEP, and takes away the latter of the save before. Says on stderr why that
 * fails, and returns whether it does not; what was saved before is then still there, and nothing else. */
bool resume_save(const char *path, long step, const rng *batches, const gpt_model *model, kls_optimizer *optimizer);

/* Reads both back and returns the steps done. Ends the program with a message if they do not fit the model or each other. */
long resume_load(const char *path, rng *batches, gpt_model *model, kls_optimizer *optimizer);

#endif
