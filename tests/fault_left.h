/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* For tests of faults: what a test has left, and the set-up for that. */
#ifndef SEG_TESTS_FAULT_LEFT_H
#define SEG_TESTS_FAULT_LEFT_H

#include "fault_os.h"
#include "testing.h"

/* Each test is judged by what it lost itself. */
static uint64_t mapped_before;

static int begin(void **state)
{
	(void)state;
	mapped_before = fault_mapped_bytes();
	return 0;
}

static void assert_nothing_is_left(void)
{
	assert_int_equal(fault_mapped_bytes() - mapped_before, 0);
	assert_int_equal(fault_blocks(), 0);
	assert_int_equal(fault_threads(), 0);
}

#endif
