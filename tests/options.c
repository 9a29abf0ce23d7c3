/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * lib/options.h: the size rule.  A shorter struct is an older caller's, a
 * longer one a newer caller's: old and new programs both work, and nothing
 * that was asked for is silently left out.
 */
#include "testing.h"

#include "options.h"

struct sample {
	size_t size;
	uint64_t first;
	uint64_t second;
};

enum { MIN_SIZE = offsetof(struct sample, second) };

union theirs {
	struct sample s;
	char bytes[OPTIONS_MAX_SIZE + 8];
};

static union theirs theirs;

static union theirs *of_size(size_t size)
{
	memset(&theirs, 0, sizeof(theirs));
	theirs.s = (struct sample){ .size = size, .first = 1, .second = 2 };
	return &theirs;
}

static bool get(struct sample *own, size_t size)
{
	*own = (struct sample){ 0 };
	return options_get(own, sizeof(*own), of_size(size), MIN_SIZE);
}

static void test_same_size_is_copied(void **state)
{
	struct sample own;

	(void)state;
	assert_true(get(&own, sizeof(own)));
	assert_int_equal(own.first, 1);
	assert_int_equal(own.second, 2);
}

static void test_shorter_keeps_the_default(void **state)
{
	struct sample own;

	(void)state;
	assert_true(get(&own, MIN_SIZE));
	assert_int_equal(own.first, 1);
	assert_int_equal(own.second, 0);
}

static void test_too_short_is_refused(void **state)
{
	struct sample own;

	(void)state;
	assert_false(get(&own, MIN_SIZE - 1));
	assert_false(get(&own, 0));
	assert_int_equal(own.first, 0);
	assert_false(options_get(&own, sizeof(own), NULL, MIN_SIZE));
}

static void test_longer_with_zero_surplus_is_copied(void **state)
{
	struct sample own;

	(void)state;
	assert_true(get(&own, sizeof(own) + 1));
	assert_true(get(&own, OPTIONS_MAX_SIZE));
	assert_int_equal(own.second, 2);
}

/* Wherever the byte stands: the first, the last, one in the middle. */
static void test_longer_with_any_surplus_is_refused(void **state)
{
	const size_t at[] = { sizeof(struct sample), 777,
			      OPTIONS_MAX_SIZE - 1 };
	struct sample own = { 0 };

	(void)state;
	for (size_t i = 0; i < sizeof(at) / sizeof(*at); i++) {
		of_size(OPTIONS_MAX_SIZE)->bytes[at[i]] = 1;
		assert_false(options_get(&own, sizeof(own), &theirs, MIN_SIZE));
		assert_int_equal(own.first, 0);
	}
	of_size(OPTIONS_MAX_SIZE)->bytes[OPTIONS_MAX_SIZE] = 1;
	assert_true(options_get(&own, sizeof(own), &theirs, MIN_SIZE));
}

/* A size that is none (say, an uninitialised one) is not followed. */
static void test_absurd_size_is_refused(void **state)
{
	struct sample own;

	(void)state;
	assert_false(get(&own, OPTIONS_MAX_SIZE + 1));
	assert_false(get(&own, SIZE_MAX));
}

static void test_valid_result_sizes(void **state)
{
	(void)state;
	assert_false(result_is_valid(NULL));
	assert_false(result_is_valid(of_size(0)));
	assert_false(result_is_valid(of_size(2 * sizeof(size_t) - 1)));
	assert_true(result_is_valid(of_size(2 * sizeof(size_t))));
	assert_true(result_is_valid(of_size(OPTIONS_MAX_SIZE)));
	assert_false(result_is_valid(of_size(OPTIONS_MAX_SIZE + 1)));
}

static const struct sample result = { .size = sizeof(result), .first = 11,
				      .second = 12 };

/* Not one byte behind what the caller's struct holds is written. */
static void test_shorter_result_is_cut(void **state)
{
	(void)state;
	result_put(of_size(MIN_SIZE), &result, sizeof(result));
	assert_int_equal(theirs.s.size, MIN_SIZE);
	assert_int_equal(theirs.s.first, 11);
	assert_int_equal(theirs.s.second, 2);
}

static void test_longer_result_ends_in_zeros(void **state)
{
	const size_t size = sizeof(result) + 16;

	(void)state;
	memset(of_size(size)->bytes + sizeof(result), 0xff, 24);
	result_put(&theirs, &result, sizeof(result));
	assert_int_equal(theirs.s.size, size);
	assert_int_equal(theirs.s.second, 12);
	for (size_t i = sizeof(result); i < size; i++)
		assert_int_equal(theirs.bytes[i], 0);
	assert_int_equal(theirs.bytes[size], (char)0xff);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_same_size_is_copied),
		cmocka_unit_test(test_shorter_keeps_the_default),
		cmocka_unit_test(test_too_short_is_refused),
		cmocka_unit_test(test_longer_with_zero_surplus_is_copied),
		cmocka_unit_test(test_longer_with_any_surplus_is_refused),
		cmocka_unit_test(test_absurd_size_is_refused),
		cmocka_unit_test(test_valid_result_sizes),
		cmocka_unit_test(test_shorter_result_is_cut),
		cmocka_unit_test(test_longer_result_ends_in_zeros),
	};

	return run_group(tests);
}
