/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* lib/json.h: what it writes is JSON, and cut where the buffer ends. */
#include "testing.h"

#include "json.h"
#include "json_check.h"

static void test_the_check_checks(void **state)
{
	const char *const right[] = {
		"{}", "[]", "0", "-1", "\"\"", "null", "{\"a\":1,\"b\":[2,3]}",
		"\"\\u0041\\n\"", "[{},{\"x\":null}]",
	};
	const char *const wrong[] = {
		"", "{", "{}}", "[1,]", "{\"a\"}", "{\"a\":}", "01", "-",
		"\"", "\"\\x\"", "\"\\u00g0\"", "{a:1}", "[1 2]", "{,}",
	};

	(void)state;
	for (size_t i = 0; i < sizeof(right) / sizeof(*right); i++)
		assert_true(json_is_valid(right[i]));
	for (size_t i = 0; i < sizeof(wrong) / sizeof(*wrong); i++)
		assert_false(json_is_valid(wrong[i]));
	assert_int_equal(json_find("{\"ab\":1,\"b\":22}", "b"), 22);
	assert_true(json_find("{\"ab\":1}", "b") == UINT64_MAX);
}

struct pair {
	uint64_t first, second;
};

static const struct json_field pair_fields[] = {
	JSON_FIELD(pair, first), JSON_FIELD(pair, second), JSON_END,
};

/* Some of everything; the length of the whole. */
static int write_all(char *buffer, size_t bytes)
{
	const struct pair p = { 1, UINT64_MAX };
	struct json j;

	json_begin(&j, buffer, bytes);
	json_open(&j, NULL, '{');
	json_fields(&j, pair_fields, &p);
	json_signed(&j, "least", INT64_MIN);
	json_signed(&j, "most", INT64_MAX);
	json_string(&j, "none", NULL);
	json_string(&j, "odd", "a\"b\\c\n\x01\xff");
	json_open(&j, "list", '[');
	json_open(&j, NULL, '{');
	json_close(&j, '}');
	json_number(&j, NULL, 0);
	json_open(&j, NULL, '[');
	json_close(&j, ']');
	json_close(&j, ']');
	json_close(&j, '}');
	return json_end(&j);
}

static const char whole[] =
	"{\"first\":1,\"second\":18446744073709551615,"
	"\"least\":-9223372036854775808,\"most\":9223372036854775807,"
	"\"none\":null,\"odd\":\"a\\\"b\\\\c\\u000a\\u0001\\ufffd\","
	"\"list\":[{},0,[]]}";

static void test_byte_by_byte(void **state)
{
	char buffer[512];

	(void)state;
	assert_int_equal(write_all(buffer, sizeof(buffer)), sizeof(whole) - 1);
	assert_string_equal(buffer, whole);
	assert_true(json_is_valid(buffer));
}

/* RFC 8259, 8.1: UTF-8.  RFC 3629: what is none. */
static void test_utf8(void **state)
{
	const char *const pairs[][2] = {
		{ "donn\xc3\xa9" "es", "donn\xc3\xa9" "es" },
		{ "\xc2\x80\xdf\xbf", "\xc2\x80\xdf\xbf" },
		{ "\xe0\xa0\x80\xed\x9f\xbf", "\xe0\xa0\x80\xed\x9f\xbf" },
		{ "\xee\x80\x80\xef\xbf\xbf", "\xee\x80\x80\xef\xbf\xbf" },
		{ "\xf0\x90\x80\x80", "\xf0\x90\x80\x80" },
		{ "\xf4\x8f\xbf\xbf", "\xf4\x8f\xbf\xbf" },
		{ "\x80", "\\ufffd" },			/* no first byte */
		{ "\xc3", "\\ufffd" },			/* cut */
		{ "\xe2\x82" "a", "\\ufffd\\ufffda" },
		{ "\xf0\x90\x80", "\\ufffd\\ufffd\\ufffd" },
		{ "\xc1\xbf", "\\ufffd\\ufffd" },		/* too long */
		{ "\xe0\x9f\xbf", "\\ufffd\\ufffd\\ufffd" },
		{ "\xf0\x8f\xbf\xbf", "\\ufffd\\ufffd\\ufffd\\ufffd" },
		{ "\xed\xa0\x80", "\\ufffd\\ufffd\\ufffd" },/* a surrogate */
		{ "\xf4\x90\x80\x80", "\\ufffd\\ufffd\\ufffd\\ufffd" },
		{ "\xf8\xff\xc3\xa9", "\\ufffd\\ufffd\xc3\xa9" },
		{ "\x7f\t", "\\u007f\\u0009" },
	};
	char buffer[64], expected[64];
	struct json j;

	(void)state;
	for (size_t i = 0; i < sizeof(pairs) / sizeof(*pairs); i++) {
		json_begin(&j, buffer, sizeof(buffer));
		json_string(&j, NULL, pairs[i][0]);
		snprintf(expected, sizeof(expected), "\"%s\"", pairs[i][1]);
		assert_string_equal(buffer, expected);
		assert_int_equal(json_end(&j), strlen(expected));
		assert_true(json_is_valid(buffer));
	}
}

static void test_cut_anywhere(void **state)
{
	char buffer[sizeof(whole) + 2];

	(void)state;
	assert_int_equal(write_all(NULL, 0), sizeof(whole) - 1);
	for (size_t bytes = 1; bytes <= sizeof(whole); bytes++) {
		memset(buffer, 'x', sizeof(buffer));
		assert_int_equal(write_all(buffer, bytes), sizeof(whole) - 1);
		assert_memory_equal(buffer, whole, bytes - 1);
		assert_int_equal(buffer[bytes - 1], '\0');
		assert_int_equal(buffer[bytes], 'x');
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_the_check_checks),
		cmocka_unit_test(test_byte_by_byte),
		cmocka_unit_test(test_utf8),
		cmocka_unit_test(test_cut_anywhere),
	};

	return run_group(tests);
}
