/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The published page: who reads gets one write, whole, or none. */
#include "explore.h"

#include <string.h>

#include "published.h"

enum { WORDS = sizeof(struct published_head) / 8 };

static struct published_page page;

static void write_number(uint64_t number)
{
	uint64_t body[WORDS] = { PUBLISHED_MAGIC, WORDS };

	for (unsigned i = 2; i < WORDS; i++)
		body[i] = number;
	published_write(&page, body);
}

static void write_first(void)
{
	memset(&page, 0, sizeof(page));
	write_number(1);
}

static void write_or_read(unsigned thread)
{
	uint64_t body[WORDS] = { 0 };

	if (thread == 0) {
		write_number(2);
		return;
	}
	if (published_read(&page, body))
		return;
	explore_check(body[2] == 1 || body[2] == 2);
	for (unsigned i = 3; i < WORDS; i++)
		explore_check(body[i] == body[2]);
}

static void reads_the_last(void)
{
	uint64_t body[WORDS];

	explore_check(published_read(&page, body) == 0 && body[2] == 2);
}

static const struct explore_twin twins[] = {
	{ .name = "relaxed words written", .mutation = EXPLORE_RELAX,
	  .function = "published_write", .op = "store", .nth = 2 },
	{ .name = "relaxed end of the write", .mutation = EXPLORE_RELAX,
	  .function = "published_write", .op = "store", .nth = 3 },
	{ .name = "no odd number", .mutation = EXPLORE_SKIP,
	  .function = "published_write", .op = "store", .nth = 1 },
	EXPLORE_TWIN("relaxed words read", RELAX, "copy", "load"),
	{ .name = "relaxed first look", .mutation = EXPLORE_RELAX,
	  .function = "published_read", .op = "load", .nth = 1 },
	{ .name = "the second look is the first", .mutation = EXPLORE_STALE,
	  .function = "published_read", .op = "load", .nth = 2 },
	{ .name = NULL },
};

const struct explore_scenario explore_published[] = {
	{ .name = "published: read against write", .threads = 3,
	  .setup = write_first, .body = write_or_read, .post = reads_the_last,
	  .twins = twins },
	{ .name = NULL },
};
