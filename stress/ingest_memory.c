/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The two calls that may wait, with the longest one noted. */
#include "ingest_memory.h"

#include <errno.h>

#include "ingest_input.h"

uint64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

struct timespec time_in_ms(unsigned ms)
{
	uint64_t ns = now_ns() + ms * UINT64_C(1000000);

	return (struct timespec){
		.tv_sec = (time_t)(ns / 1000000000u),
		.tv_nsec = (long)(ns % 1000000000u),
	};
}

int stream_open(const char *name, const char *head, FILE **ret)
{
	FILE *file = fopen(name, "w");
	int rc;

	if (!file)
		return -errno;
	if (head && (fputs(head, file) < 0 || fflush(file))) {
		rc = -errno;
		fclose(file);
		return rc;
	}
	*ret = file;
	return 0;
}

int stream_close(FILE *file)
{
	int rc = fflush(file) ? -errno : ferror(file) ? -EIO : 0;

	if (fclose(file) && rc == 0)
		rc = -errno;
	return rc;
}

void cond_open(pthread_cond_t *cond)
{
	pthread_condattr_t attr;

	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(cond, &attr);
	pthread_condattr_destroy(&attr);
}

uint64_t mem_dice(struct mem *mem)
{
	const uint64_t step = UINT64_C(0x9e3779b97f4a7c15);

	/* relaxed: nothing hangs on it */
	return input_mix(atomic_fetch_add_explicit(&mem->dice, step,
						   memory_order_relaxed));
}

static void note_time(struct mem *mem, bool ok, uint64_t since)
{
	_Atomic uint64_t *most = ok ? &mem->longest_ns : &mem->refused_ns;
	uint64_t ns = now_ns() - since;
	uint64_t old = atomic_load_explicit(most, memory_order_relaxed);

	while (ns > old && !atomic_compare_exchange_weak_explicit(
			most, &old, ns, memory_order_relaxed,
			memory_order_relaxed))
		;
}

int mem_page_create(struct mem *mem, const size_t *bytes, unsigned parts,
		    struct mem_page **ret_page)
{
	uint64_t since = now_ns();
	int rc = mem->ops->page_create(mem->state, bytes, parts, ret_page);

	note_time(mem, rc == 0, since);
	return rc;
}

int mem_page_grow(struct mem *mem, struct mem_page *page, unsigned part,
		  size_t bytes)
{
	uint64_t since = now_ns();
	int rc = mem->ops->page_grow(page, part, bytes);

	note_time(mem, rc == 0, since);
	return rc;
}
