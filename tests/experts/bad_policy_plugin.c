/* A plug-in that misbehaves on demand: mode=range|pinned|absent|none names such a victim,
 * mode=refuse fails to create. Test double for the guard. */

#include <string.h>

#include "experts/policy_plugin.h"

static char mode; /* first letter */

static void* bad_create(const stoker_policy_config* config, const stoker_policy_param* params,
                        size_t n_params, char* error, size_t error_bytes) {
  (void)config, (void)error, (void)error_bytes;
  mode = n_params == 1 ? params[0].value[0] : 'n';
  if (n_params == 1 && strcmp(params[0].value, "refuse") == 0) return NULL;
  return &mode;
}
static void bad_destroy(void* state) { (void)state; }
static void bad_access(void* state, const stoker_policy_access* access) {
  (void)state, (void)access;
}
static void bad_change(void* state, uint32_t entry) { (void)state, (void)entry; }
static uint32_t bad_victim(void* state, uint32_t incoming, const uint8_t* pinned) {
  (void)state, (void)pinned;
  switch (mode) {
    case 'r': return 1u << 30;
    case 'p': return 0; /* the test pins 0 */
    case 'a': return incoming;
    default: return STOKER_NO_ENTRY;
  }
}

static const stoker_policy_plugin kPlugin = {STOKER_POLICY_ABI_VERSION, "bad", bad_create,
    bad_destroy, bad_access, bad_change, bad_change, bad_victim};

const stoker_policy_plugin* stoker_policy_plugin_entry(void) { return &kPlugin; }
