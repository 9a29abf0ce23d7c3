/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The same in C++17, and a vector whose memory counts against the budget, too.
 *   c++ -std=c++17 pages.cc $(pkg-config --cflags --libs libseg)
 */
#include <cstdio>
#include <exception>
#include <vector>

#include <seg.hpp>

static void print_pages(const seg::budget &budget, const seg::pool &pool)
{
	auto options = seg::sized<seg_cache_options>();
	options.max_weight = 1 << 20;
	options.budget = budget.get();
	options.pages = pool.get();
	seg::cache cache(options);

	auto load = [&](std::uint64_t key, seg::page &ret_page) {
		ret_page = seg::page(pool, {50000});
		std::snprintf(static_cast<char *>(ret_page.part(0)), 50000,
			      "page %d", static_cast<int>(key));
		return std::error_code();
	};
	for (unsigned i = 0; i < 3; i++) {
		std::error_code error;
		seg::pin pin = cache.find_or_load(i % 2, load, error);

		if (error)
			throw std::system_error(error);
		std::puts(static_cast<const char *>(pin.part(0)));
	}
}

int main()
try {
	seg::budget budget(64 << 20);
	seg::pool pool(budget);
	seg::memory_resource resource(pool);
	std::pmr::vector<int> numbers(10000, 1, &resource);

	print_pages(budget, pool);
	return pool.stats().active == 1 ? 0 : 1;
} catch (const std::exception &e) {
	std::fprintf(stderr, "pages: %s\n", e.what());
	return 1;
}
