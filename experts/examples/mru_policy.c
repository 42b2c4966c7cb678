/* A complete policy plug-in: evicts the most recently used expert, after skipping `skip` of them.
 * MRU is what beats LRU on a cycle that does not fit.
 *
 *   cc -O2 -shared -fPIC -I. -o mru.so experts/examples/mru_policy.c
 *   stoker sim trace.stk --policy lru,./mru.so:skip=4 --capacity 5%,10% */

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "experts/policy_plugin.h"

struct mru {
  uint32_t n_entries;
  long skip;
  uint64_t now;
  uint64_t* used; /* [n_entries] time of the last use */
  uint8_t* resident;
};

static void* mru_create(const stoker_policy_config* config, const stoker_policy_param* params,
                        size_t n_params, char* error, size_t error_bytes) {
  long skip = 0;
  for (size_t i = 0; i < n_params; ++i) {
    const char* value = params[i].value;
    if (strcmp(params[i].key, "skip") != 0) {
      snprintf(error, error_bytes, "unknown parameter %s; known: skip", params[i].key);
      return NULL;
    }
    skip = strlen(value) == strspn(value, "0123456789") ? strtol(value, NULL, 10) : -1;
    if (*value == '\0' || skip < 0 || skip > 1000000) {
      snprintf(error, error_bytes, "skip=%s is not a whole number in 0 .. 1000000", value);
      return NULL;
    }
  }
  struct mru* mru = calloc(1, sizeof *mru);
  mru->n_entries = (uint32_t)config->n_layers * (uint32_t)config->n_experts;
  mru->skip = skip;
  mru->used = calloc(mru->n_entries, sizeof *mru->used);
  mru->resident = calloc(mru->n_entries, 1);
  return mru;
}

static void mru_destroy(void* state) {
  struct mru* mru = state;
  free(mru->used);
  free(mru->resident);
  free(mru);
}

static void mru_on_access(void* state, const stoker_policy_access* access) {
  struct mru* mru = state;
  mru->used[access->entry] = ++mru->now;
}
static void mru_on_insert(void* state, uint32_t entry) { ((struct mru*)state)->resident[entry] = 1; }
static void mru_on_erase(void* state, uint32_t entry) { ((struct mru*)state)->resident[entry] = 0; }

static uint32_t mru_victim(void* state, uint32_t incoming, const uint8_t* pinned) {
  const struct mru* mru = state;
  (void)incoming;
  uint32_t best = STOKER_NO_ENTRY;
  uint64_t below = UINT64_MAX; /* found one newer than this in the round before */
  for (long round = 0; round <= mru->skip; ++round) {
    uint32_t newest = STOKER_NO_ENTRY;
    for (uint32_t e = 0; e < mru->n_entries; ++e) {
      if (!mru->resident[e] || pinned[e] || mru->used[e] >= below) continue;
      if (newest == STOKER_NO_ENTRY || mru->used[e] > mru->used[newest]) newest = e;
    }
    if (newest == STOKER_NO_ENTRY) break;
    best = newest;
    below = mru->used[newest];
  }
  return best;
}

static const stoker_policy_plugin kPlugin = {STOKER_POLICY_ABI_VERSION, "mru", mru_create,
    mru_destroy, mru_on_access, mru_on_insert, mru_on_erase, mru_victim};

const stoker_policy_plugin* stoker_policy_plugin_entry(void) { return &kPlugin; }
