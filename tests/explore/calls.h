/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The library's calls by names of their own: pages.c has the others. */
#ifndef CALLS_H
#define CALLS_H

#include "pool.h"

void *calls_alloc(struct seg_pool *p, size_t bytes);
void *calls_alloc_with(struct seg_pool *p, size_t bytes,
		       const struct seg_alloc_options *options);
int calls_release_handle(struct seg_pool *p, const struct seg_handle *handle);
int calls_handle_of(struct seg_pool *p, const void *segment,
		    struct seg_handle *ret_handle);
int calls_resolve(struct seg_pool *p, const struct seg_handle *handle,
		  void **ret_segment);
enum seg_misuse calls_find(struct seg_pool *p, const void *segment,
			   struct region **ret_region, uint32_t *ret_slice);
int calls_misuse(struct seg_pool *p, enum seg_misuse what,
		 const void *address);

#endif
