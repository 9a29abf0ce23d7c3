/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The stubs of a tenant: a hash table over arrays that stay where they are. */
#ifndef SQLITE_STUBS_H
#define SQLITE_STUBS_H

#include "tenant.h"

bool stubs_init(struct tenant *t);
/* All are free by now. */
void stubs_end(struct tenant *t);

/* One that is free, not yet to be found; NULL: no memory. */
struct stub *stub_take(struct tenant *t, const struct seg_alloc_options *how);
/* It can be found by that number. */
void stub_link(struct tenant *t, struct stub *s, uint32_t number);
void stub_unlink(struct tenant *t, struct stub *s);
/* It is free, whether it could be found or not. */
void stub_give(struct tenant *t, struct stub *s);

/* Stub i of all that there are; i below chunks * STUB_CHUNK. */
static inline struct stub *stub_at(const struct tenant *t, uint32_t i)
{
	return &t->chunk[i / STUB_CHUNK][i % STUB_CHUNK];
}

/* NULL: none. */
static inline struct stub *stub_oldest(struct stub_list *list)
{
	return list->end.newer == &list->end ? NULL : list->end.newer;
}

#endif
