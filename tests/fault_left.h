/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* For tests of faults: what a test has left, and the set-up for that. */
#ifndef SEG_TESTS_FAULT_LEFT_H
#define SEG_TESTS_FAULT_LEFT_H

#include "fault_os.h"
#include "testing.h"

/* Each test is judged by what it lost itself. */
static uint64_t mapped_before, blocks_before;

/* What the thread keeps until it ends: the table of its stashes. */
static void use_a_pool(void)
{
	struct seg_budget *b = new_budget(SEG_MAX_BYTES);
	struct seg_pool *p = new_pool(b);

	assert_int_equal(seg_release(p, seg_alloc(p, 1)), 0);
	end_pool(p);
	end_budget(b);
}

static int begin(void **state)
{
	(void)state;
	use_a_pool();
	mapped_before = fault_mapped_bytes();
	blocks_before = fault_blocks();
	return 0;
}

static void assert_nothing_is_left(void)
{
	assert_int_equal(fault_mapped_bytes() - mapped_before, 0);
	assert_int_equal(fault_blocks() - blocks_before, 0);
	assert_int_equal(fault_threads(), 0);
}

#endif
