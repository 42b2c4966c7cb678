#pragma once

// A cache policy as a shared object: `--policy ./mine.so:key=value`, in the engine and in the
// simulator. Plain C, so any language can make one. The host loads the object, calls
// stoker_policy_plugin_entry, and then the functions of the table it returns, from one thread, in
// the order described in experts/cache_policy.h. They must not block or throw; `pinned` and the
// access are borrowed for the call, `layer_cost` lives as long as the policy. The host checks every
// victim: one that is not resident or is pinned puts the plug-in aside for the rest of the run, LRU
// goes on, and one line says so. experts/examples/mru_policy.c is a complete one.

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Raised when a struct below changes in a way old objects cannot live with. */
#define STOKER_POLICY_ABI_VERSION 1u
#define STOKER_POLICY_SYMBOL "stoker_policy_plugin_entry"
#define STOKER_NO_ENTRY UINT32_MAX

/* An entry is layer * n_experts + expert. */
typedef struct stoker_policy_config {
  uint32_t struct_bytes; /* sizeof this struct at the host; later versions append fields */
  int32_t n_layers;
  int32_t n_experts; /* per layer */
  int32_t top_k;
  uint32_t capacity; /* entries */
  uint64_t seed;
  const float* layer_cost; /* [n_layers] bytes of a miss, relative; NULL = all equal */
} stoker_policy_config;

typedef struct stoker_policy_access {
  uint32_t struct_bytes;
  uint32_t entry;
  int32_t layer;
  int32_t rank;      /* 0 = the router's first choice */
  int64_t token;     /* first token of the request; differs in each forward pass */
  float gate_weight; /* 0 = not known */
  uint8_t hit;
  uint8_t decode; /* 0 = prefill */
} stoker_policy_access;

typedef struct stoker_policy_param {
  const char* key;
  const char* value;
} stoker_policy_param;

typedef struct stoker_policy_plugin {
  uint32_t abi_version; /* STOKER_POLICY_ABI_VERSION */
  const char* name;
  /* Returns the policy's state, or NULL with a message in `error` (NUL-terminated, at most
   * error_bytes) when the configuration or a parameter is not acceptable. */
  void* (*create)(const stoker_policy_config* config, const stoker_policy_param* params,
                  size_t n_params, char* error, size_t error_bytes);
  void (*destroy)(void* state);
  void (*on_access)(void* state, const stoker_policy_access* access);
  void (*on_insert)(void* state, uint32_t entry);
  void (*on_erase)(void* state, uint32_t entry);
  /* A resident entry with pinned[entry] == 0 to give up for `incoming`; STOKER_NO_ENTRY only when
   * there is none. pinned: [n_layers * n_experts] bytes. */
  uint32_t (*victim)(void* state, uint32_t incoming, const uint8_t* pinned);
} stoker_policy_plugin;

/* What the object defines and exports, under the name STOKER_POLICY_SYMBOL. */
const stoker_policy_plugin* stoker_policy_plugin_entry(void);
typedef const stoker_policy_plugin* (*stoker_policy_entry_point)(void);

#ifdef __cplusplus
}
#endif
