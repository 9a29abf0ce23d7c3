/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Which segments a page of so many bytes is made of.
 */
#ifndef SERVER_PLAN_H
#define SERVER_PLAN_H

#include <seg.h>

#define PLAN_MOST ((uint64_t)SEG_PAGE_PARTS * SEG_MAX_BYTES)

/*
 * The sizes for seg_page_create() that take the least memory, and of those
 * the fewest; how many they are.  bytes: 1 to PLAN_MOST.
 */
unsigned plan_parts(uint64_t bytes, size_t parts[SEG_PAGE_PARTS]);

#endif
