from playwright.sync_api import Page

SPEAKING = "data:text/html,<h1>Quiet</h1><script>document.querySelector('h1').textContent = 'Speaking'</script>"


def test_a_page_runs_scripts(page: Page) -> None:
    page.goto(SPEAKING)
    assert page.inner_text("h1") == "Speaking"


def test_a_page_without_javascript_runs_none(page_without_javascript: Page) -> None:
    page_without_javascript.goto(SPEAKING)
    assert page_without_javascript.inner_text("h1") == "Quiet"
