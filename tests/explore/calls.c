/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * lib/handle.c, lib/allocate.c and lib/release.c, as parts of the explored
 * library: pages.c has calls of the same names.  Misuse is told to world.c.
 */
#include "calls.h"

#define seg_alloc calls_alloc
#define seg_alloc_with calls_alloc_with
#define seg_release_handle calls_release_handle
#define seg_handle_of calls_handle_of
#define seg_resolve calls_resolve
#define pool_find calls_find
#define pool_misuse calls_misuse
#include "handle.c"
#undef pool_misuse
#include "allocate.c"
#include "release.c"
