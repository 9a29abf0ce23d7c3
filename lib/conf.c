/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* See conf.h. */
#define _GNU_SOURCE
#include "conf.h"

#include <ctype.h>
#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

enum { CONF_TOKEN_BYTES = 64 };

const char *conf_text(void)
{
	return secure_getenv("SEG_CONF");
}

static bool parse_number(const char *text, long long least, long long most,
			 long long *ret_value)
{
	char *end;
	long long value;
	int saved = errno;

	errno = 0;
	value = strtoll(text, &end, 10);
	if (errno || end == text || *end || value < least || value > most) {
		errno = saved;
		return false;
	}
	errno = saved;
	*ret_value = value;
	return true;
}

static void set_value(const char *name, long long value,
		      struct seg_pool_options *found)
{
	if (!strcmp(name, "decay_ms"))
		found->decay_ms = (unsigned)value;
	else if (!strcmp(name, "region_bytes"))
		found->region_bytes = (uint64_t)value;
	else if (!strcmp(name, "wait_ms"))
		found->wait_ms = (int)value;
	else if (!strcmp(name, "log_level"))
		found->log_level = (enum seg_log_level)value;
	else if (!strcmp(name, "publish"))
		found->publish = (unsigned)value;
	else if (!strcmp(name, "huge_pages"))
		found->huge_pages = (enum seg_huge_pages)value;
	else if (!strcmp(name, "ahead"))
		found->ahead = (enum seg_ahead)value;
}

/* What the program set stays. */
static void merge(struct seg_pool_options *o,
		  const struct seg_pool_options *found)
{
	if (!o->decay_ms)
		o->decay_ms = found->decay_ms;
	if (!o->region_bytes)
		o->region_bytes = found->region_bytes;
	if (!o->wait_ms)
		o->wait_ms = found->wait_ms;
	if (!o->log_level)
		o->log_level = found->log_level;
	if (!o->publish)
		o->publish = found->publish;
	if (!o->huge_pages)
		o->huge_pages = found->huge_pages;
	if (!o->ahead)
		o->ahead = found->ahead;
}

static const struct {
	const char *name;
	long long least, most;
	bool power_of_two;
} conf_names[] = {
	{ "decay_ms", 1, UINT_MAX, false },
	{ "region_bytes", SEG_MIN_BYTES, 64 << 20, true },
	{ "wait_ms", SEG_NO_WAIT, INT_MAX, false },
	{ "log_level", SEG_LOG_OFF, SEG_LOG_SEGMENT, false },
	{ "publish", 1, 1, false },
	{ "huge_pages", SEG_HUGE_PAGES_SYSTEM, SEG_HUGE_PAGES_NEVER, false },
	{ "ahead", SEG_AHEAD_NONE, SEG_AHEAD_BACK, false },
};

static bool value_of(const char *text, size_t i, long long *ret_value)
{
	return parse_number(text, conf_names[i].least, conf_names[i].most,
			    ret_value) && *ret_value != 0 &&
	       (!conf_names[i].power_of_two ||
		(*ret_value & (*ret_value - 1)) == 0);
}

static void read_pair(char *pair, struct seg_pool_options *found,
		      const struct log *log)
{
	char *colon = strchr(pair, ':');
	long long value;

	if (colon)
		*colon = '\0';
	for (size_t i = 0; i < sizeof(conf_names) / sizeof(*conf_names); i++) {
		if (strcmp(pair, conf_names[i].name))
			continue;
		if (colon && value_of(colon + 1, i, &value))
			set_value(pair, value, found);
		else
			log_event(log, SEG_LOG_ERROR,
				  "SEG_CONF: bad value in '%s' ignored", pair);
		return;
	}
	log_event(log, SEG_LOG_ERROR, "SEG_CONF: unknown name '%s' ignored",
		  pair);
}

/* One pair of the text, fit for a line of the log. */
static void copy_pair(char *pair, const char *text, size_t n)
{
	for (size_t i = 0; i < n; i++)
		pair[i] = iscntrl((unsigned char)text[i]) ? '?' : text[i];
	pair[n] = '\0';
}

void conf_apply(const char *text, struct seg_pool_options *options,
		const struct log *log)
{
	struct seg_pool_options found = { 0 };
	char pair[CONF_TOKEN_BYTES];

	while (text && *text) {
		size_t n = strcspn(text, ",");

		copy_pair(pair, text, n < sizeof(pair) ? n : sizeof(pair) - 1);
		if (n >= sizeof(pair))
			log_event(log, SEG_LOG_ERROR,
				  "SEG_CONF: bad value in '%s' ignored", pair);
		else if (n)
			read_pair(pair, &found, log);
		text += n + (text[n] == ',');
	}
	merge(options, &found);
}
