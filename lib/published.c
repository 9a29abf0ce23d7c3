/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* See published.h. */
#include "published.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "os.h"

#ifndef SEG_EXPLORE	/* where atomics are more than a word */
_Static_assert(sizeof(struct published_page) == PUBLISHED_BYTES, "all of it");
#endif
_Static_assert(sizeof(struct published_head) % 8 == 0 &&
	       sizeof(struct published_record) % 8 == 0, "whole words");

static uint64_t words_of(const uint64_t *body)
{
	return body[offsetof(struct published_head, words) / 8];
}

void published_write(struct published_page *page, const uint64_t *body)
{
	/* relaxed, both: only this thread writes; each word brings it along */
	uint64_t sequence = u64_load_relaxed(&page->sequence) | 1;

	u64_store_relaxed(&page->sequence, sequence);
	for (uint64_t i = 0; i < words_of(body); i++)
		/* release -> published_read(), which sees the odd number */
		u64_store_release(&page->word[i], body[i]);
	/* release -> published_read(), which sees all words */
	u64_store_release(&page->sequence, sequence + 1);
}

static void copy(const struct published_page *page, uint64_t *body,
		 uint64_t from, uint64_t end)
{
	for (uint64_t i = from; i < end; i++)
		/* acquire <- published_write() */
		body[i] = u64_load_acquire(&page->word[i]);
}

int published_read(const struct published_page *page, uint64_t *body)
{
	enum { HEAD_WORDS = sizeof(struct published_head) / 8 };
	/* acquire <- published_write() */
	uint64_t before = u64_load_acquire(&page->sequence);
	bool fits;

	if (!before || before % 2)
		return -EAGAIN;
	copy(page, body, 0, HEAD_WORDS);
	fits = body[0] == PUBLISHED_MAGIC && words_of(body) >= HEAD_WORDS &&
	       words_of(body) <= PUBLISHED_WORDS;
	if (fits)
		copy(page, body, HEAD_WORDS, words_of(body));
	/* relaxed: the words before it were loaded with acquire */
	if (u64_load_relaxed(&page->sequence) != before)
		return -EAGAIN;
	return fits ? 0 : -EPROTO;
}

const char *published_directory = PUBLISHED_DIRECTORY;

void published_path(char path[PUBLISHED_PATH_BYTES], long process)
{
	snprintf(path, PUBLISHED_PATH_BYTES, "%s/" PUBLISHED_PREFIX "%llu.%ld",
		 published_directory,
		 (unsigned long long)os_process_namespace(), process);
}
