/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* seg_version(): what the build says, as three numbers. */
#include "pools.h"

static void test_version_is_of_the_build(void **state)
{
	(void)state;
	assert_string_equal(seg_version(), PACKAGE_VERSION);
}

static void test_version_is_three_numbers(void **state)
{
	unsigned major, minor, patch;
	char again[64];

	(void)state;
	assert_int_equal(sscanf(seg_version(), "%u.%u.%u", &major, &minor,
				&patch), 3);
	snprintf(again, sizeof(again), "%u.%u.%u", major, minor, patch);
	assert_string_equal(seg_version(), again);
}

static void test_version_is_a_constant(void **state)
{
	(void)state;
	assert_ptr_equal(seg_version(), seg_version());
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_version_is_of_the_build),
		cmocka_unit_test(test_version_is_three_numbers),
		cmocka_unit_test(test_version_is_a_constant),
	};

	return run_group(tests);
}
