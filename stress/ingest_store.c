/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The store's file and directory; the fragments are in ingest_fragment.c. */
#include "ingest_store.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* A file without a name, so that it is gone with the process. */
static int open_unnamed(struct store *store)
{
	const char *dir = getenv("TMPDIR");
	char name[4096];
	size_t length = strlen(dir ? dir : "/tmp");

	if (length > sizeof(name) - 32)
		return -ENAMETOOLONG;
	memcpy(name, dir ? dir : "/tmp", length);
	strcpy(name + length, "/ingest.XXXXXX");
	store->fd = mkstemp(name);
	if (store->fd < 0)
		return -errno;
	unlink(name);
	store->own = true;
	store->name = "a temporary file";
	return 0;
}

static int open_named(struct store *store)
{
	struct stat st;

	store->fd = open(store->name, O_RDWR | O_CREAT | O_CLOEXEC, 0644);
	if (store->fd < 0 || fstat(store->fd, &st))
		return -errno;
	if (S_ISREG(st.st_mode) && ftruncate(store->fd, 0))
		return -errno;
	return 0;
}

int store_open(struct store *store, const char *name)
{
	pthread_mutex_init(&store->lock, NULL);
	store->name = name;
	return name ? open_named(store) : open_unnamed(store);
}

void store_close(struct store *store)
{
	if (store->fd >= 0)
		close(store->fd);
	free(store->entries);
	pthread_mutex_destroy(&store->lock);
}

void store_reset(struct store *store)
{
	pthread_mutex_lock(&store->lock);
	store->pages = 0;
	store->reveals = 0;
	pthread_mutex_unlock(&store->lock);
	store->end = 0;
}

static int grow_directory(struct store *store)
{
	uint64_t capacity = store->capacity ? store->capacity * 2 : 1024;
	struct page_entry *entries = realloc(store->entries,
					     capacity * sizeof(*entries));

	if (!entries)
		return -ENOMEM;
	store->entries = entries;
	store->capacity = capacity;
	return 0;
}

int store_new_page(struct store *store, uint64_t *ret_key)
{
	int rc = 0;

	pthread_mutex_lock(&store->lock);
	if (store->pages == store->capacity)
		rc = grow_directory(store);
	if (rc == 0) {
		*ret_key = store->pages++;
		store->entries[*ret_key] = (struct page_entry){ 0 };
	}
	pthread_mutex_unlock(&store->lock);
	return rc;
}

uint64_t store_pages(struct store *store)
{
	uint64_t pages;

	pthread_mutex_lock(&store->lock);
	pages = store->pages;
	pthread_mutex_unlock(&store->lock);
	return pages;
}

void store_entry(struct store *store, uint64_t key, struct page_entry *ret)
{
	pthread_mutex_lock(&store->lock);
	*ret = store->entries[key];
	pthread_mutex_unlock(&store->lock);
}

void store_publish(struct store *store, uint64_t key, uint64_t at,
		   uint32_t bytes)
{
	struct page_entry *entry;

	pthread_mutex_lock(&store->lock);
	entry = &store->entries[key];
	entry->at[entry->fragments] = at;
	entry->bytes[entry->fragments] = bytes;
	entry->fragments++;
	pthread_mutex_unlock(&store->lock);
}

void store_reveal(struct store *store, uint64_t key)
{
	struct page_entry *entry;

	pthread_mutex_lock(&store->lock);
	entry = &store->entries[key];
	entry->revealed = entry->fragments;
	store->recent[store->reveals++ % STORE_RECENT] = key;
	pthread_mutex_unlock(&store->lock);
}

/* Where of n things: the eighth power of a number in [0, 1). */
static uint64_t skewed(uint64_t random, uint64_t n)
{
	uint64_t u = random >> 32;
	unsigned i;

	for (i = 0; i < 3; i++)
		u = u * u >> 32;
	return u * n >> 32;
}

static uint64_t recent_key(const struct store *store, uint64_t random)
{
	uint64_t known = store->reveals < STORE_RECENT ? store->reveals
						       : STORE_RECENT;

	return store->recent[(random >> 32) % known];
}

bool store_pick(struct store *store, uint64_t random, uint64_t *ret_key,
		struct page_entry *ret)
{
	bool recent = random % 4 == 0;

	*ret = (struct page_entry){ 0 };
	pthread_mutex_lock(&store->lock);
	if (store->reveals) {
		*ret_key = recent ? recent_key(store, random)
				  : skewed(random, store->pages);
		*ret = store->entries[*ret_key];
	}
	pthread_mutex_unlock(&store->lock);
	return ret->revealed;
}

int store_append(struct store *store, const void *buffer, size_t bytes)
{
	const char *at = buffer;

	while (bytes) {
		ssize_t n = pwrite(store->fd, at, bytes, (off_t)store->end);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n ? -errno : -EIO;
		at += n;
		bytes -= (size_t)n;
		store->end += (uint64_t)n;
	}
	if (store->end > store->peak)
		store->peak = store->end;
	return 0;
}
