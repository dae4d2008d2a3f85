async def test_x(http, owner):
    r = await http.get("/drops"); assert r.status_code == 200
    assert await owner.fetch("select * from api.audit()") == []
